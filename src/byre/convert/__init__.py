"""From one disk to another: plan, pipeline, and what each target wants of a file."""
