"""Makes trained neural controllers physically smaller, component by component, and measures what that costs."""
