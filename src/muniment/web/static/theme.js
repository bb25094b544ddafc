// Before anything is drawn: the theme that was chosen here. Without a choice the system's own counts.
try {
  const chosen = localStorage.getItem("muniment-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {} // no storage: the system's own
