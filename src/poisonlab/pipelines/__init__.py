"""Tools for other training pipelines: noise for datasets, transforms, files of noise, poisons."""
