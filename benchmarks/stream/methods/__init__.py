"""The methods that learn the stream: what people know, beside ours."""
