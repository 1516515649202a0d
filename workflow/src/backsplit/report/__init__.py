"""What a person looks at: pictures of every case, and one page for the data set."""
