"""First steps: how good are these features for my classes?

Run it from anywhere: ``python first_steps.py [HOME]``. It takes the sample that comes with the package; put
your own folder of images, one folder a class, in place of ``"fashion-sample"``. Each part can be pasted into
a cell of a notebook, where the last line of a cell shows itself as a table.
"""

import sys

import probe

# %% A workspace is a folder: data sets, weights, stores of embeddings and results are kept there.
w = probe.Workspace(sys.argv[1] if len(sys.argv) > 1 else None)
print(w)

# %% Images -> embeddings, once. Raw pixels are the baseline that any network has to beat.
# Try backbone="efficientnet-lite0" next: its ImageNet weights come with the installation.
store = w.extract("fashion-sample", backbone="pixels", size=8, limit=600)
print(store)

# %% The embeddings are arrays for whatever you like.
X, y = store.arrays(split="train")
print(f"{X.shape[0]} training images of {X.shape[1]} features, {len(store.index.classes)} classes")

# %% A linear probe. C is chosen on validation; the test split is scored once.
run = w.fit("logreg", store)
low, high = run.test.interval
print(f"test accuracy {run.test.accuracy:.3f}, 95 % interval {low:.3f} to {high:.3f}")

# %% Which classes are hard, and what are they taken for?
print(run.table("per_class"))
print(run.table("most_confused"))

# %% Is another head really worse, or was that chance?
simple = w.fit("centroid", store)
print(w.compare(run, simple))

# %% How many images a class would have been enough?
few = w.fit("centroid", store, shots=[1, 5, "all"], repeats=3)
print(few.table("curve"))

# %% Everything is kept: the lists of what there is, the newest first.
print(w.runs)
