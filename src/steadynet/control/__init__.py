"""The controller: observe, ask the pure code, act, write down."""
