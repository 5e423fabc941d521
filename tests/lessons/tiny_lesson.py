"""A lesson of three functions, whole and right; a test replaces what it wants to break."""

import textwrap

SOURCE = '''\
# ---
# jupyter:
#   minidl:
#     title: Tiny
#     minutes: 5
#     needs: ["01"]
#     checks: 2
# ---

# %% [markdown]
# # 02 · Tiny
#
# **Goal.** Double and square. **You need.** Lesson 01. **Time.** Five minutes.

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("02", checks=2)

# %%
import numpy as np

x = np.array([1.5, -2.0, 3.0])
rng = np.random.default_rng(0)


# %%
def double(x):
    """Return 2x."""
    ### BEGIN SOLUTION
    two = 2
    return two * x
    ### END SOLUTION


# %% tags=["wrong"]
# check: double
# says: You squared it.
def double(x):
    return x**2


# %% tags=["check"]
lesson.check("double", lambda: double(x), lambda: 2 * x, 1e-12, wrong={"You squared it.": lambda: x**2})

# %%
print(lesson.yours(double, lambda x: 2 * x, "double")(x))


# %%
class Square:
    """Squares."""

    def forward(self, x):
        """Return x²."""
        self.x = x
        ### BEGIN SOLUTION
        return x * x
        ### END SOLUTION

    def backward(self, dy):
        """Return 2 x dy."""
        ### BEGIN SOLUTION
        return 2 * self.x * dy
        ### END SOLUTION


# %% tags=["wrong"]
# check: square
# says: WRONG dx
class Square:
    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, dy):
        return self.x * dy


# %% tags=["check"]
own = np.random.default_rng(2)
dy = own.normal(size=3)


def both():
    """Return y and dx."""
    layer = Square()
    y = layer.forward(x)
    return {"y": y, "dx": layer.backward(dy)}


lesson.check("square", both, {"y": x**2, "dx": 2 * x * dy}, tol=1e-12)

# %% [markdown]
# One.

# %% [markdown]
# Two.

# %% [markdown]
# Three.

# %% [markdown]
# Four.

# %% [markdown]
# Five.

# %% [markdown]
# Six.

# %% [markdown]
# Seven.

# %% [markdown]
# Eight.

# %%
lesson.done()
'''


def lesson(folder, *changes, name="02_tiny"):
    """Write the lesson with (old, new) replaced once each, and return its path."""
    text = SOURCE
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = folder / "src" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def code(text, tag=""):
    """Return a code cell."""
    return f"# %%{f' tags=[{chr(34)}{tag}{chr(34)}]' if tag else ''}\n{textwrap.dedent(text).strip()}\n\n"
