"""*When* dispatch runs: one file per kind of idleness. They import nothing of ours."""
