"""Study: passages become questions with short answers, from people, an endpoint or built-in rules.

questions.py   what a question is, and its jsonl file
making.py      a maker asks every passage of a corpus, once
endpoint.py    a maker that asks a chat model behind an OpenAI-compatible endpoint
builtin.py     a maker without a model: headings, lists and tables; sentences by sentences.py
"""
