"""The server: transports that translate, one data plane that decides, counters beside it."""
