"""Where bytes come from: HTTP over TLS, a mirror, a folder; and images, a page at a time."""
