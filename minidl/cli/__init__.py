"""What the commands share: their parser, what they show, and how they stop."""
