"""What a person changes between two runs: keys, the table, files; one by one and in pairs."""
