"""What people's own training pipelines use: noise for their datasets, transforms, files of noise, poisons."""
