"""What the customer service hears."""
