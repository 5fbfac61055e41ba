"""An extension of Griffe: the comment behind a field describes it in the reference (`[T] float32, nats`)."""

import io
import tokenize

import griffe


class Comments(griffe.Extension):
    def on_attribute_instance(self, *, attr, **_):
        if attr.docstring is None and (text := comment_of(attr.source)):
            attr.docstring = griffe.Docstring(text, lineno=attr.lineno, parent=attr)


def comment_of(source):
    tokens = tokenize.generate_tokens(io.StringIO(source + "\n").readline)
    return " ".join(t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT)
