"""The networks in plain torch: the definition that training uses and that inference must equal."""
