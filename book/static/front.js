// Puts the playground in the place of the picture. The module comes as text, so that it also loads from a file.
(() => {
  const { module, style, data } = window.batchlabPlayground;
  const place = document.getElementById("playground");
  const address = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
  import(address).then(({ mount }) => {
    const sheet = document.createElement("style");
    sheet.textContent = style;
    document.head.append(sheet);
    place.replaceChildren();
    mount(place, data);
    URL.revokeObjectURL(address);
  });
})();
