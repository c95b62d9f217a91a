"""REST, sessions, streams and files in front of the services. Holds no business rule and no row."""
