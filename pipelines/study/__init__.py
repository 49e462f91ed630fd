"""Study: passages become questions with short answers."""
