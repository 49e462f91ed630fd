"""What make and CI call: the environment, the README's generated parts, and the check of a tier."""
