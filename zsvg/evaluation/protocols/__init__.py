"""Ways of counting by name: `by_name` lists them, the other modules are those of one benchmark."""
