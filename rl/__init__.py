"""What learns: tasks, demonstrations, training and evaluation. The other three rooms never import this one."""
