from graphlib import TopologicalSorter

import grimp

PACKAGES = ("omni", "data_shards", "eval", "stages")


def test_no_two_files_import_each_other():
    """Nor a package and a file of it, which the contract "No circles" passes over."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    TopologicalSorter(imports).prepare()  # a circle is an error that lists its files
