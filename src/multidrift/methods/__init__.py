"""How it is put together: one file a method, a folder where it takes several."""
