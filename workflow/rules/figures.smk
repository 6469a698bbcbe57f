rule drawings:
    input: []
