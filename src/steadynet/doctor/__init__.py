"""The data doctor: what is wrong with a table, which rows show it, and what to do."""
