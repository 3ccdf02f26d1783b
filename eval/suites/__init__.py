"""Which rows a suite has, and the folders and hubs that their docs come from."""
