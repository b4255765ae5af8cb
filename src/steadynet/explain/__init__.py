"""Why a graph answers as it does: importance, dependence, and what each column adds to a row."""
