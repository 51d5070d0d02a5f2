"""What people look at: incidents, alerts, performance, live readings."""
