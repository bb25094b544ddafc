"""Alembic's entry: run inside the transaction that `migrations.migrate` opened."""

from __future__ import annotations

from alembic import context

from muniment.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
