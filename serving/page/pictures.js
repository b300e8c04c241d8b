// Pictures on the page: from PNG files and pixels to elements, and an uploaded picture to pixels.

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** One of TF Serving's PNG answers as an image. */
export function pngImage(bytes, text) {
  return element("img", { src: `data:image/png;base64,${bytes.b64}`, alt: text, title: text });
}

/** Pixels, rows of [red, green, blue], as a canvas. */
export function pixelImage(rows, text) {
  const canvas = element("canvas", { width: rows[0].length, height: rows.length, title: text });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", text);
  const context = canvas.getContext("2d");
  const data = context.createImageData(canvas.width, canvas.height);
  rows.flat().forEach((colour, i) => data.data.set([...colour, 255], 4 * i));
  context.putImageData(data, 0, 0);
  return canvas;
}

/** Lays pictures out in rows, each pixel a whole number of the screen's. names: one per row, or null. */
export function layOut(grid, pictures, perRow, names = null) {
  const rowName = (i) => element("span", { className: "row-name", textContent: names[i / perRow] });
  grid.replaceChildren(...pictures.flatMap((picture, i) => (names && i % perRow === 0 ? [rowName(i), picture] : [picture])));
  grid.classList.toggle("named", names !== null);
  grid.style.setProperty("--columns", perRow);
  grid.perRow = perRow;
  fit(grid);
}

async function fit(grid) {
  const picture = grid.querySelector("img, canvas");
  if (!picture) return;
  if (picture.decode) await picture.decode().catch(() => {});
  const pixels = picture.naturalWidth || picture.width;
  const name = grid.querySelector(".row-name");
  const gap = 3;
  const room = (grid.clientWidth - (name ? 80 : 0) - gap * grid.perRow) / grid.perRow;
  const scale = Math.min(Math.floor((room * devicePixelRatio) / pixels), Math.ceil((144 * devicePixelRatio) / pixels));
  grid.style.setProperty("--side", `${scale >= 1 ? (scale * pixels) / devicePixelRatio : room}px`);
}

export const resizes = new ResizeObserver((entries) => entries.forEach((entry) => fit(entry.target)));

/** The largest centred square of a picture, in the model's size, as rows of [red, green, blue]. */
export function toPixels(bitmap, resolution) {
  const canvas = element("canvas", { width: resolution, height: resolution });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // under what is transparent
  context.fillRect(0, 0, resolution, resolution);
  const side = Math.min(bitmap.width, bitmap.height);
  context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, resolution, resolution);
  const data = context.getImageData(0, 0, resolution, resolution).data;
  const colour = (place) => Array.from(data.subarray(4 * place, 4 * place + 3));
  const numbers = Array.from({ length: resolution }, (_, i) => i);
  return numbers.map((y) => numbers.map((x) => colour(y * resolution + x)));
}
