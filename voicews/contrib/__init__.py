"""What connects voicews with libraries that it doesn't need."""
