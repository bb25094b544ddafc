"""Security event tokens (RFC 8417): read, checked and written. What a signal means is in `service.signals`."""
