"""What a person looks at: pages, figures, and tables about runs, labels and prompts."""
