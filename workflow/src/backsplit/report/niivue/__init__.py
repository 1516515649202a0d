"""NiiVue, which `backsplit view` serves; see LICENCES.txt."""
