"""The HTTP interface: routes, who calls, what they may, and our errors as problem documents. No rules here."""
