"""Jobs are what the commands of launch/ do: a room for each, and below them what several need."""
