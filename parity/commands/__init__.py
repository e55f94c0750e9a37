"""The command lines: a module each, with ``get_parser`` and ``main``; its name is the command's."""
