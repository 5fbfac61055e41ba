"""Language models: their files and their arithmetic."""
