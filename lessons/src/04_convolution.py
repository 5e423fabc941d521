# ---
# jupyter:
#   minidl:
#     title: Convolution
#     minutes: 90
#     needs: ["01", "02", "03"]
#     checks: 7
# ---

# %% [markdown]
# # 04 · Convolution
#
# **Goal.** You will write a convolution three times: as the loops that define it, as one matrix product (im2col), and
# as products of overlapping views (MEC), with its whole backward pass derived and proven, more than a thousand times
# faster on the way; and then train a LeNet that is made of your own functions. **You need.** Lessons 01 to 03.
# **Time.** about an hour and a half.
#
# ## What it computes
#
# Images $x$ of shape $(N,C,H,W)$, kernels $w$ of shape $(O,C,k_h,k_w)$, a bias $b$ of shape $(O)$. Each kernel slides
# over each image, and at every place the output is one dot product with the window under it:
#
# $$y_{nohv}=b_o+\sum_{c=0}^{C-1}\sum_{i=0}^{k_h-1}\sum_{j=0}^{k_w-1}w_{ocij}\;x_{n,\,c,\,h+i,\,v+j},\qquad
# H_o=H-k_h+1,\quad W_o=W-k_w+1 .$$
#
# The last window starts at row $H-k_h$, hence the $+1$. Deep learning calls this a convolution; mathematicians, who
# turn the kernel by 180°, call it a cross-correlation. Stride and padding wait until the exercise.
#
# **Predict before you run.** LeNet's first layer has $C=3$, $O=6$, a 5×5 kernel and 32×32 images. How many
# multiplications is that for one image? A core does some $10^{10}$ a second. How long will seven nested Python loops
# take for that one image?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("04", checks=7)


# %% tags=["wrong"]
# check: loops
# says: the kernel is turned by 180°
def conv_loops(x, weight, bias):
    return reference.conv2d(x, weight[:, :, ::-1, ::-1], bias)


# %%
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import minidl
from minidl import reference
from minidl.data import Loader, channel_statistics, load_task
from minidl.engines.numpy import mec
from minidl.layers import conv as package

rng = np.random.default_rng(4)


def conv_loops(x, weight, bias):
    """Return y (N, O, Ho, Wo), one multiplication at a time."""
    ### BEGIN SOLUTION
    (N, C, H, W), (O, _, kh, kw) = x.shape, weight.shape
    y = np.empty((N, O, H - kh + 1, W - kw + 1), x.dtype)
    for n, o, h, v in np.ndindex(*y.shape):
        total = bias[o]
        for c, i, j in np.ndindex(C, kh, kw):
            total += weight[o, c, i, j] * x[n, c, h + i, v + j]
        y[n, o, h, v] = total
    return y
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(404)  # the check's own numbers
x = own.standard_normal((3, 4, 5, 7))  # sizes that are all different: a swapped axis cannot hide
weight, bias = own.standard_normal((2, 4, 3, 2)), own.standard_normal(2)
turned = weight[:, :, ::-1, ::-1]

lesson.check(
    "loops",  # float64, 24 products each: some 1e-15
    lambda: conv_loops(x, weight, bias),
    lambda: reference.conv2d(x, weight, bias),
    tol=1e-13,
    wrong={"the kernel is turned by 180°: h − i where h + i belongs": lambda: reference.conv2d(x, turned, bias)},
)


# %% [markdown]
# ## im2col: one matrix product
#
# One image of LeNet's first layer takes $6\cdot28^2\cdot75=352\,800$ multiplications: 35 µs of arithmetic. Your loops
# will need about ten thousand times that, for each of their steps is an interpreted line that unpacks two numbers. The
# cure is always the same: hand NumPy the whole job at once. Here that means a matrix product, for which BLAS libraries
# have been tuned for forty years.
#
# Number the kernel's entries by $r=(c,i,j)$ and the places by $p=(h,v,n)$. Then the definition reads
#
# $$Y_{op}=b_o+\sum_rW_{or}\,X_{rp},\qquad X_{(c,i,j),(h,v,n)}=x_{n,c,h+i,v+j},$$
#
# a product of $W$, the weight as a matrix $(O\times Ck_hk_w)$, and $X$, whose **columns are the windows**,
# $(Ck_hk_w\times H_oW_oN)$. Making $X$ is called im2col.
#
# **A view, then one copy.** An array is an address and a stride for each axis. If a step along $h$ moves by $s_H$
# bytes and a step along $v$ by $s_W$, then the array of all windows, with axes $(N,C,H_o,W_o,k_h,k_w)$, has the
# strides $(s_N,s_C,s_H,s_W,s_H,s_W)$: moving the window by one row and moving *inside* the window by one row are the
# same step. So all windows exist already, as a view, without a byte copied; `sliding_window_view(x, (kh, kw), axis=(2,
# 3))` makes it and checks the bounds. Only BLAS wants a true matrix, so one transpose and one `reshape` copy it: to
# $(C,k_h,k_w,H_o,W_o,N)$, then flat. The batch goes last because minidl's images lie that way in memory (lesson 01):
# the copy then runs over long contiguous stretches.


# %% tags=["wrong"]
# check: im2col
# says: it is (O, Ho, Wo, N)
def conv_im2col(x, weight, bias):
    y = weight.reshape(len(weight), -1) @ im2col(x, *weight.shape[2:]) + bias[:, None]
    return y.reshape(len(x), len(weight), x.shape[2] - weight.shape[2] + 1, x.shape[3] - weight.shape[3] + 1)


# %%
def im2col(x, kh, kw):
    """Return the windows of x (N, C, H, W) as the columns of a (C·kh·kw, Ho·Wo·N) matrix."""
    ### BEGIN SOLUTION
    windows = sliding_window_view(x, (kh, kw), axis=(2, 3))  # (N, C, Ho, Wo, kh, kw), a view
    return windows.transpose(1, 4, 5, 2, 3, 0).reshape(x.shape[1] * kh * kw, -1)
    ### END SOLUTION


def conv_im2col(x, weight, bias):
    """Return y (N, O, Ho, Wo) by one matrix product."""
    ### BEGIN SOLUTION
    (N, _, H, W), (O, _, kh, kw) = x.shape, weight.shape
    y = weight.reshape(O, -1) @ im2col(x, kh, kw) + bias[:, None]  # (O, Ho·Wo·N)
    return y.reshape(O, H - kh + 1, W - kw + 1, N).transpose(3, 0, 1, 2)
    ### END SOLUTION


# %% tags=["check"]
def columns(x, kh, kw):
    return package.im2col(x, (kh, kw), (1, 1), (0, 0))


right = {"columns": columns(x, 3, 2), "y": reference.conv2d(x, weight, bias)}
rows = right["y"].transpose(1, 2, 3, 0).reshape(right["y"].shape)
lesson.check(
    "im2col",  # the columns are copies, without any rounding; y to some 1e-15
    lambda: {"columns": im2col(x, 3, 2), "y": conv_im2col(x, weight, bias)},
    right,
    tol={"columns": 1e-300, "y": 1e-13},
    wrong={"W X + b was reshaped to (N, O, Ho, Wo) at once; it is (O, Ho, Wo, N)": lambda: right | {"y": rows}},
)


# %% tags=["figure"]
image = np.arange(25.0).reshape(1, 1, 5, 5)
cols = lesson.yours(im2col, columns, "im2col")(image, 3, 3)
counts = np.bincount(cols.astype(int).ravel(), minlength=25).reshape(5, 5)
fig, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained", width_ratios=[1, 1.15, 1])
fig.suptitle("im2col writes a pixel once for every window that contains it")
titles = "an image of 5×5 pixels, three windows", "im2col: all windows, as columns", "how often a pixel was copied"
for ax, array, title in zip(axes, (image[0, 0], cols, counts), titles, strict=True):
    ax.imshow(array, cmap="Oranges" if array is counts else "Blues", vmin=-4, vmax=14 if array is counts else 32)
    for (row, column), value in np.ndenumerate(array):
        ax.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=10)
    ax.set(title=title, xticks=[], yticks=[])
axes[1].set(xlabel="place p = (h, v, n)", ylabel="entry r = (c, i, j) of the kernel")
for place, colour in ((0, "C3"), (1, "C2"), (8, "C1")):
    h, v, shift = place // 3, place % 3, 0.06 * (place - 1) / 2
    axes[0].add_patch(plt.Rectangle((v - 0.45 + shift, h - 0.45 + shift), 2.9, 2.9, fill=False, ec=colour, lw=2.5))
    axes[1].add_patch(plt.Rectangle((place - 0.47, -0.47), 0.94, 8.94, fill=False, ec=colour, lw=2.5))

# %% [markdown]
# ## Backward: the adjoint
#
# **Read the picture.** Every pixel of the image is copied as often as the right panel says, up to $k_hk_w$ times. Keep
# that panel in mind: it is what backward must undo.
#
# Let $L$ be the loss and $dY_{op}=\partial L/\partial Y_{op}$, a matrix $(O\times H_oW_oN)$. From $Y=WX+b$, entry by
# entry:
#
# $$\frac{\partial L}{\partial W_{or}}=\sum_pdY_{op}X_{rp},\qquad
# \frac{\partial L}{\partial X_{rp}}=\sum_oW_{or}\,dY_{op},\qquad
# \frac{\partial L}{\partial b_o}=\sum_pdY_{op},$$
#
# that is $dW=dY\,X^\top$, $dX=W^\top dY$, and $db$ the row sums. What is left is the way from $dX$ back to $dx$. The
# map $A:x\mapsto X$ copies; it is linear, each entry of $X$ being one pixel: $X_q=x_{s(q)}$ with $s(q)$ the pixel it
# came from. By the chain rule
#
# $$\frac{\partial L}{\partial x_t}=\sum_q\frac{\partial L}{\partial X_q}\frac{\partial X_q}{\partial x_t}=\sum_{q:\,s(q)=t}dX_q .$$
#
# A pixel that was copied nine times **collects the nine gradients of its copies**. This map, $A^\top$, is called
# col2im; it is the adjoint (the transpose) of $A$, and not its inverse: $A^\top A x$ is the image times the counts of
# the right panel. Being the adjoint means $\langle Ax,R\rangle=\langle x,A^\top R\rangle$ for all $x$ and $R$, because
# both sides are $\sum_qx_{s(q)}R_q$, sorted once by $q$ and once by pixel. Two random arrays therefore test col2im
# completely, without knowing what it should return. (Every backward pass of a linear map is its adjoint, so this test
# comes back in every lesson.)
#
# How to add up? The entry $(c,i,j)$ of all columns together is one shifted image:
# $X_{(c,i,j),(h,v,n)}=x_{n,c,h+i,v+j}$. So $k_hk_w$ shifted additions of whole arrays do it. With $dx$ as $(C,H,W,N)$
# until the end, they read `dx[:, i:i+Ho, j:j+Wo] += ...`, each of shape $(C,H_o,W_o,N)$.
#
# One flag more: the first layer of a network needs no $dx$, since nobody reads the gradient of the images.
# `needs_dx=False` saves a matrix product and the largest col2im of all.


# %% tags=["wrong"]
# check: adjoint
# says: = where += belongs
def col2im(cols, shape, kh, kw):
    return overwritten(cols)


# %% tags=["wrong"]
# check: backward
# says: without moving its axes to (O, Ho, Wo, N)
def conv_backward(dy, x, weight):
    dY = dy.reshape(len(weight), -1)
    dX = weight.reshape(len(weight), -1).T @ dY
    dweight = (dY @ im2col(x, *weight.shape[2:]).T).reshape(weight.shape)
    return {"dx": col2im(dX, x.shape, *weight.shape[2:]), "dweight": dweight, "dbias": dY.sum(1)}


# %%
def col2im(cols, shape, kh, kw):
    """Add the columns (C·kh·kw, Ho·Wo·N) up in images of this shape: the adjoint of im2col."""
    ### BEGIN SOLUTION
    N, C, H, W = shape
    Ho, Wo = H - kh + 1, W - kw + 1
    cols = cols.reshape(C, kh, kw, Ho, Wo, N)
    x = np.zeros((C, H, W, N), cols.dtype)
    for i, j in np.ndindex(kh, kw):
        x[:, i : i + Ho, j : j + Wo] += cols[:, i, j]
    return x.transpose(3, 0, 1, 2)
    ### END SOLUTION


def conv_backward(dy, x, weight, needs_dx=True):
    """Return dx (None unless needed), dweight and dbias in a dict, for dy (N, O, Ho, Wo)."""
    ### BEGIN SOLUTION
    O, _, kh, kw = weight.shape
    dY = dy.transpose(1, 2, 3, 0).reshape(O, -1)  # (O, Ho·Wo·N)
    dweight = (dY @ im2col(x, kh, kw).T).reshape(weight.shape)
    dx = col2im(weight.reshape(O, -1).T @ dY, x.shape, kh, kw) if needs_dx else None
    return {"dx": dx, "dweight": dweight, "dbias": dY.sum(1)}
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(412)  # the check's own numbers


def overwritten(R):
    last = np.zeros_like(x)
    for i, j in np.ndindex(3, 2):
        last[:, :, i : i + 3, j : j + 6] = R.reshape(4, 3, 2, 3, 6, 3)[:, i, j].transpose(3, 0, 1, 2)
    return last


pairs = [(own.standard_normal(x.shape), own.standard_normal((24, 54))) for _ in range(5)]
lost = [(z * overwritten(R)).sum() for z, R in pairs]
lesson.check(
    "adjoint",  # <A z, R> = <z, Aᵀ R> for five random pairs: sums of 1296 products, some 1e-13
    lambda: np.array([(z * col2im(R, x.shape, 3, 2)).sum() for z, R in pairs]),
    lambda: np.array([(columns(z, 3, 2) * R).sum() for z, R in pairs]),
    tol=1e-11,
    wrong={"the last window overwrites the others: = where += belongs": lambda: np.array(lost)},
)


# %% tags=["check"]
own = np.random.default_rng(413)  # the check's own numbers
dy = own.standard_normal((3, 2, 3, 6))  # a random cotangent: with dy = 1 much would cancel or coincide
mixed = reference.conv2d_backward(dy.reshape(2, 3, 6, 3).transpose(3, 0, 1, 2), x, weight, bias)

lesson.check(
    "backward",  # sums of 54 products: some 1e-14
    lambda: conv_backward(dy, x, weight),
    lambda: reference.conv2d_backward(dy, x, weight, bias),
    tol=1e-12,
    wrong={"dy is reshaped to a matrix without moving its axes to (O, Ho, Wo, N)": lambda: mixed},
)


# %% [markdown]
# ## MEC: lower one axis only
#
# im2col wrote 25 values for each pixel of LeNet's images. Writing and reading those takes longer than the arithmetic.
# Memory-efficient convolution (Cho & Brand, ICML 2017) copies along the *width* only. With the batch innermost:
#
# $$L_{h,\,(c,j),\,(v,n)}=x_{n,c,h,v+j},\qquad L:\;(H)\times(Ck_w)\times(W_oN),$$
#
# $k_w$ values per pixel in place of $k_hk_w$. Now look at one row $h$ of the *output*. It needs image rows
# $h,\dots,h+k_h-1$:
#
# $$y_{o,h,(v,n)}=\sum_{i}\sum_{(c,j)}w_{o,c,i,j}\;L_{h+i,\,(c,j),\,(v,n)} .$$
#
# The $k_h$ blocks $L_h,\dots,L_{h+k_h-1}$ lie one below the other in memory. So
# `L[h : h + kh].reshape(kh * C * kw, Wo * N)` is the im2col matrix of this output row, and it is a **view**. The next
# row's matrix begins one block later and shares all but one of its blocks:
#
# ```
# L_0  ┐
# L_1  │ row 0  ┐
# L_2  ┘        │ row 1
# L_3           ┘
# ```
#
# (Each $L_h$ has $Ck_w$ lines of $W_oN$ values; here $k_h = 3$.) One product per row, $W'\,(O\times k_hCk_w)$ times a view, and no further copy. The order of $W'$'s columns must be
# that of the view's lines: $(i,c,j)$.


# %% tags=["wrong"]
# check: mec
# says: the lines of the view are (i, c, j)
def conv_mec(x, weight, bias):
    L, rows = lower(x, weight.shape[3]), range(x.shape[2] - weight.shape[2] + 1)
    y = [weight.reshape(len(weight), -1) @ L[h : h + weight.shape[2]].reshape(weight[0].size, -1) for h in rows]
    return (np.array(y) + bias[:, None]).reshape(len(rows), len(weight), -1, len(x)).transpose(3, 1, 0, 2)


# %%
def lower(x, kw):
    """Return L (H, C·kw, Wo·N), a contiguous array, for x (N, C, H, W)."""
    ### BEGIN SOLUTION
    N, C, H, W = x.shape
    windows = sliding_window_view(x, kw, axis=3)  # (N, C, H, Wo, kw), a view
    return np.ascontiguousarray(windows.transpose(2, 1, 4, 3, 0)).reshape(H, C * kw, (W - kw + 1) * N)
    ### END SOLUTION


def conv_mec(x, weight, bias):
    """Return y (N, O, Ho, Wo), by a product of weight and a view of L for each output row."""
    ### BEGIN SOLUTION
    (N, _, H, W), (O, _, kh, kw) = x.shape, weight.shape
    L, W2 = lower(x, kw), weight.transpose(0, 2, 1, 3).reshape(O, -1)  # (O, kh·C·kw)
    y = np.empty((H - kh + 1, O, (W - kw + 1) * N), x.dtype)
    for h in range(H - kh + 1):
        np.matmul(W2, L[h : h + kh].reshape(-1, y.shape[2]), out=y[h])
    y += bias[:, None]
    return y.reshape(H - kh + 1, O, W - kw + 1, N).transpose(3, 1, 0, 2)
    ### END SOLUTION


# %% tags=["check"]
misread = reference.conv2d(x, weight.reshape(2, 3, 4, 2).transpose(0, 2, 1, 3), bias)  # (c, i, j) taken for (i, c, j)
lesson.check(
    "mec",
    lambda: {"y": conv_mec(x, weight, bias), "values in L": lower(x, 2).size},
    {"y": right["y"], "values in L": 5 * 4 * 2 * 6 * 3},
    tol=1e-13,
    wrong={"the lines of the view are (i, c, j), not (c, i, j)": lambda: {"y": misread, "values in L": 720}},
)


# %% tags=["figure"]
def seven_loops(x, weight, bias):
    y = np.empty((len(x), len(weight), *(np.array(x.shape[2:]) - weight.shape[2:] + 1)), x.dtype)
    for at in np.ndindex(*y.shape):
        y[at] = bias[at[1]]
        for c, i, j in np.ndindex(*weight.shape[1:]):
            y[at] += weight[at[1], c, i, j] * x[at[0], c, at[2] + i, at[3] + j]
    return y


im2col_ours = lesson.yours(conv_im2col, lambda x, w, b: package.conv2d(x, w, b, (1, 1), (0, 0)), "im2col")
mec_ours = lesson.yours(conv_mec, lambda x, w, b: mec.conv2d(x, w, b, (1, 1), (0, 0)), "mec")
batch = rng.standard_normal((3, 32, 32, 64)).astype(np.float32).transpose(3, 0, 1, 2)  # the batch innermost in memory
w1, b1 = rng.standard_normal((6, 3, 5, 5)).astype(np.float32), np.zeros(6, np.float32)


ways = {
    "seven loops": (lesson.yours(conv_loops, seven_loops, "loops"), batch[:1], 1),
    "a dot product per window": (reference.conv2d, batch[:1], 2),
    "im2col + one product": (im2col_ours, batch, 9),
    "MEC": (mec_ours, batch, 9),
    "MEC, minidl": (lambda x, w, b: mec.conv2d(x, w, b, (1, 1), (0, 0)), batch, 9),
}
times = dict.fromkeys(ways, np.inf)
with minidl.threads(1):  # one core for everybody, BLAS too
    for name, (way, some, repeats) in ways.items():
        for _ in range(repeats):  # the fastest run counts: the others measure what else the machine was doing
            start = perf_counter()
            way(some, w1, b1)
            times[name] = min(times[name], (perf_counter() - start) / len(some))
slowest = times["seven loops"]
fig, ax = plt.subplots(figsize=(9, 3.2), layout="constrained")
ax.barh(list(times), times.values(), color=["0.6", "0.6", "C1", "C0", "C0"], log=True)
for row, value in enumerate(times.values()):
    ax.text(value * 1.15, row, f"{value * 1e6:,.0f} µs   {slowest / value:,.0f}×", va="center")
ax.invert_yaxis()
ax.set(xlim=(1e-5, 30 * slowest), xlabel="time for one image (seconds, log scale)")
ax.set_title("LeNet's first layer on one core: the same sums, all that differs is who does the loops")
mega = 4 * 64 / 1e6
print(f"MB for 64 images: {3 * 32**2 * mega:.1f}; im2col {75 * 28**2 * mega:.1f}; MEC {15 * 32 * 28 * mega:.1f}")

# %% [markdown]
# **Read it.** The arithmetic never changed. The first jump (a dot product per window) takes the inner 75 steps out of
# the interpreter, the second takes out all the rest, and MEC saves most of the copying: 4.4 times the images where
# im2col writes 19. Your bars vary with the machine, and with what else it does; the first factor of a thousand does
# not.
#
# ## The other pieces of LeNet
#
# LeNet is conv – pool – ReLU, twice, then three affine layers with ReLU between (those are lesson 02's). Missing is
# **max pooling**: the largest of each 2×2 window, $y_{nchv}=\max_{i,j<2}x_{n,c,2h+i,2v+j}$. Away from ties $y$ equals
# one of the four, so its derivative is 1 there and 0 at the others: backward sends $dy$ to the place where the maximum
# was.
#
# **Predict.** An MNIST image is mostly exact zeros, so many windows hold four equal values. What does
# `dx = (x == y) * dy` do with those? A loss that changes by $dy\cdot\epsilon$ when *all four* move by $\epsilon$ cannot have four
# gradients $dy$. One must be chosen; the custom is the first in row-major order, which is what `argmax` returns.


# %% tags=["wrong"]
# check: pool
# says: each of several equal maxima gets the whole gradient
def max_pool_backward(dy, which):
    return winners * dy.repeat(2, 2).repeat(2, 3)


# %%
def max_pool(x):
    """Return the maxima y (N, C, H/2, W/2) of the 2×2 windows of x, and which of the four (0 to 3) each was."""
    ### BEGIN SOLUTION
    N, C, H, W = x.shape
    four = x.reshape(N, C, H // 2, 2, W // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(N, C, H // 2, W // 2, 4)
    which = four.argmax(-1)
    return np.take_along_axis(four, which[..., None], -1)[..., 0], which
    ### END SOLUTION


def max_pool_backward(dy, which):
    """Return dx (N, C, 2·Ho, 2·Wo) from dy (N, C, Ho, Wo) and the winners."""
    ### BEGIN SOLUTION
    N, C, Ho, Wo = dy.shape
    four = np.where(which[..., None] == np.arange(4), dy[..., None], dy.dtype.type(0))  # (N, C, Ho, Wo, 4)
    return four.reshape(N, C, Ho, Wo, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(N, C, 2 * Ho, 2 * Wo)
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(420)  # the check's own numbers
ties = np.round(own.standard_normal((3, 5, 4, 6)))  # small integers: many windows hold equal maxima
dpool = own.standard_normal((3, 5, 2, 3))
winners, spread = reference.max_pool2d(ties, 2, 2, 0).repeat(2, 2).repeat(2, 3) == ties, dpool.repeat(2, 2).repeat(2, 3)

answer = {"y": reference.max_pool2d(ties, 2, 2, 0), **reference.max_pool2d_backward(dpool, ties, 2, 2, 0)}


def pooled():
    """Return what both functions give, and their shapes by name."""
    y, which = max_pool(ties)
    return {"y": y, "dx": max_pool_backward(dpool, which)}


lesson.check(
    "pool",
    pooled,
    answer,
    tol=1e-300,
    wrong={
        "each of several equal maxima gets the whole gradient": lambda: answer | {"dx": winners * spread},
        "these are four neighbours of one row: bring a window's two rows together, by transpose, before reshape": lambda: (
            answer | {"y": ties.reshape(3, 5, 2, 3, 4).max(-1)}
        ),
    },
)


# %%
def package_pool(x):
    layer = minidl.MaxPool2d(2)
    return layer.forward(x), layer


def package_backward(dy, x, w, needs_dx):
    return dict(zip(("dx", "dweight", "dbias"), mec.conv2d_backward(dy, x, w, (1, 1), (0, 0), needs_dx), strict=True))


pool = lesson.yours(max_pool, package_pool, "pool")
pool_backward = lesson.yours(max_pool_backward, lambda dy, layer: layer.backward(dy), "pool")
conv_back = lesson.yours(conv_backward, package_backward, "backward")


class Conv(minidl.Conv2d):  # with the package's initial values, and your passes
    def forward(self, x):
        self.x = x
        return mec_ours(x, self.params["weight"], self.params["bias"])

    def backward(self, dy):
        found = conv_back(dy, self.x, self.params["weight"], self.needs_dx)
        for name in self.grads:
            self.grads[name] += found[f"d{name}"]
        return found["dx"]


class Pool(minidl.Layer):
    def forward(self, x):
        y, self.which = pool(x)
        return y

    def backward(self, dy):
        return pool_backward(dy, self.which)


task = load_task("multitask", sample=True)  # 40 classes: ten each of MNIST, CIFAR-10, SVHN and Fashion-MNIST
mean, std = channel_statistics(task.train)
train = Loader(task.train, 50, mean=mean, std=std, rng=rng)
test = Loader(task.test, 200, mean=mean, std=std, shuffle=False)
net = []
for c, o in ((3, 6), (6, 16)):
    net += [Conv(c, o, 5, needs_dx=c > 3, rng=rng), Pool(), minidl.ReLU()]
net.append(minidl.Flatten())
for c, o in ((400, 120), (120, 84)):
    net += [minidl.Linear(c, o, rng=rng), minidl.ReLU()]
net, loss = minidl.Sequential(*net, minidl.Linear(84, 40, rng=rng)), minidl.SoftmaxCrossEntropy()
optimiser, losses, accuracy = minidl.SGD(net, lr=0.03, momentum=0.9), [], {source: [] for source in task.test.sources}
with minidl.threads(1):
    for _ in range(4):
        for images, labels, _ in train:
            losses.append(loss.forward(net.forward(images), labels))
            optimiser.zero_grad()
            net.backward(loss.backward())
            optimiser.step()
        correct = np.concatenate([net.forward(images).argmax(1) == labels for images, labels, _ in test])
        for number, source in enumerate(accuracy):
            accuracy[source].append(100 * correct[task.test.source == number].mean())

fig, (left, middle) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
left.plot(losses, color="0.7", lw=0.5)
left.plot(np.arange(25, len(losses) - 24), np.convolve(losses, np.ones(50) / 50, "valid"), label="mean of 50")
left.axhline(np.log(40), color="k", ls=":", label="guessing: log 40")
left.set(xlabel="step (50 images each)", ylabel="cross-entropy", title="Your LeNet learns")
left.legend()
for source, values in accuracy.items():
    middle.plot(range(1, 5), values, "o-", label=source)
middle.axhline(100 / 40, color="k", ls=":", label="guessing")
middle.set(xlabel="epoch", xticks=[1, 2, 3, 4], ylabel="test accuracy (%)", ylim=(0, 100), title="40 classes at once")
middle.legend(fontsize=8)
print(f"test accuracy {100 * correct.mean():.1f} % of {len(correct)} images; guessing gives 2.5 %")

# %% [markdown]
# **Read it.** Every convolution and pooling in this network went through functions that you wrote and proved. It has
# seen 4600 images a few times, on a CPU, and is far above guessing on each dataset: best where the pictures are
# simplest. Lesson 05 puts batch norm into it, and from lesson 08 on the four datasets are the reason for modes.
#
# ## Exercise: stride and padding, by adjoints alone
#
# With padding $p$, zeros surround the image; with stride $s$, only every $s$-th window counts. Both are linear maps:
# *pad*, then *conv*, then *keep every $s$-th*. A composition $CBA$ has the adjoint $A^\top B^\top C^\top$, so backward
# runs through the three adjoints in reverse:
#
# - keeping every $s$-th row and column: its adjoint puts the values back at their places and zeros between;
# - conv: `conv_backward`, which you have;
# - padding: its adjoint cuts the border off ($\langle\text{pad}\,x,z\rangle=\langle x,\text{crop}\,z\rangle$, as the
#   border of $\text{pad}\,x$ is zero).
#
# Write the backward pass of such a convolution. (It computes windows that nobody keeps. `im2col` in the package puts
# the stride into the view, `windows[:, :, ::s, ::s]`, and so never makes them.)


# %%
def conv_backward_strided(dy, x, weight, s, p):
    """Return dx, dweight and dbias for stride s and padding p (height and width alike)."""
    ### BEGIN SOLUTION
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    full = [size - k + 1 for size, k in zip(padded.shape[2:], weight.shape[2:], strict=True)]
    spread = np.zeros((*dy.shape[:2], *full))
    spread[:, :, ::s, ::s] = dy
    grads = conv_backward(spread, padded, weight)
    return grads | {"dx": grads["dx"][:, :, p : p + x.shape[2], p : p + x.shape[3]]}
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(423)  # the check's own numbers
dstrided = own.standard_normal((3, 2, 3, 4))

lesson.check(
    "strided",  # x (3, 4, 5, 7), kernel 3×2, stride 2, padding 1
    lambda: conv_backward_strided(dstrided, x, weight, 2, 1),
    lambda: reference.conv2d_backward(dstrided, x, weight, bias, stride=2, padding=1),
    tol=1e-12,
)

# %% [markdown]
# ## In the package, and in PyTorch
#
# - [`minidl/reference/conv.py`](../minidl/reference/conv.py): the loops.
#   [`minidl/layers/conv.py`](../minidl/layers/conv.py): im2col and col2im as here, with stride and padding, on any
#   array library. [`minidl/engines/numpy/mec.py`](../minidl/engines/numpy/mec.py): MEC in tiles that stay near the cache, spread
#   over threads, with a backward that uses the same views; [docs/convolution.md](../docs/convolution.md) explains it
#   slowly.
# - `torch.nn.functional.unfold` and `fold` are im2col and col2im; `fold` adds overlapping values, as an adjoint must.
#   `torch.nn.Conv2d` picks among im2col, Winograd and FFT algorithms by shape; all compute the sums of your seven
#   loops, up to rounding.

# %%
lesson.done()
