"""Tables: reading, kinds of columns, splits, snapshots and checks."""
