"""Ways to tell people: `ports.Notifier`. Here the process's own log, and a file of JSON lines."""
