"""The same job in other frameworks, as their users would write it well."""
