"""A recorded day again, with the tier table as it is and as it would be: requests, images, a queue, figures."""
