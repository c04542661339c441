"""A kernel that outlives a notebook: Python, torch and geossl start once for several runs."""

import os

import nbformat
from labs import QUICK_DOCTOR
from nbclient import NotebookClient

from tools.tutorials import copies, execute


class Kernel:
    """A kernel in a folder, in which the cells of notebooks are run as one likes."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        execute.retry_kernel_start(self._start)
        return self

    def _start(self):
        self.client = NotebookClient(
            nbformat.v4.new_notebook(), timeout=300, allow_errors=True,
            resources={"metadata": {"path": str(self.folder)}},
        )  # fmt: skip
        self._context = self.client.setup_kernel(env=dict(os.environ))
        self._context.__enter__()

    def __exit__(self, *error):
        self._context.__exit__(*error)

    def open(self, book, *, strict=False, folder=None):
        """Begin a notebook: nothing is defined, and its outputs are kept apart from others'."""
        self.book = self.client.nb = book
        self.client.reset_execution_trackers()
        self.skip = lambda output: False
        self.reset(strict=strict)
        self.say(f"__import__('os').chdir({str(folder or self.folder)!r})")
        if "check_machine" in str(book.cells):
            self.say(QUICK_DOCTOR)

    def run(self, first=0, *, tag=None):
        """Run from a cell, all or those with a tag, to the first error; it, or None, and where."""
        for number, cell in enumerate(self.book.cells[first:], first):
            if tag is not None and tag not in copies.cell_tags(cell):
                continue
            self.client.execute_cell(cell, number)
            for output in cell.get("outputs", []):
                if output["output_type"] == "error" and not self.skip(output):
                    return output, number
        return None, None

    def say(self, code):
        cell = nbformat.v4.new_code_cell(code)
        self.book.cells.append(cell)
        self.client.execute_cell(cell, len(self.book.cells) - 1)
        self.book.cells.pop()
        assert not [o for o in cell.outputs if o["output_type"] == "error"], cell.outputs

    def reset(self, *, strict):
        self.say("get_ipython().reset(new_session=False)")
        self.set_strict(strict)

    def set_strict(self, strict):
        self.say(f"__import__('os').environ['GEOSSL_STRICT'] = '{strict:d}'")


def error_text(error):
    return None if error is None else f"{error['ename']}: {error['evalue']}"
