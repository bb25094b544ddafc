"""Events and read models on SQLAlchemy Core, for SQLite and PostgreSQL, through one set of tables and queries."""
