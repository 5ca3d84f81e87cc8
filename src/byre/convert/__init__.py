"""From one disk to another: plan (pure), pipeline (moves bytes), compare, targets, and qcow2 with its snapshots."""
