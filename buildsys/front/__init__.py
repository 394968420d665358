"""What the user sees: tasks, commands, reporter, tables. The only room that imports rich."""
