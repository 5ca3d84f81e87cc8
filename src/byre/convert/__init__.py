"""From one disk to another: plan (pure), pipeline (moves bytes), compare, and qcow2 with its snapshots."""
