// The files of a dispatch: what they are, how to have them, and a look at those that can be shown without a risk.
// Text is text. A picture is decoded as one and drawn as dots. No more is shown.

import { download, get, request, seg } from "./api.js";
import { busy, button, fill, h, long, problem } from "./dom.js";
import { coloured } from "./reply.js";
import { bytes, line } from "./text.js";

const PICTURES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
const TALLEST = 480; // pixels of a picture
const LARGEST = 8_000_000; // bytes of a picture that is drawn

function whetherHere(file) {
  if (file.ready) return "";
  if (file.removed) return ", removed";
  return file.withheld ? ", no longer given out" : ", not here yet";
}

/** A picture as dots on a canvas: its bytes are decoded as a picture or not at all, and are never a document or an address. */
async function picture(id, role, position, file, told, room) {
  if (!PICTURES.has(told.type)) throw new Error("this kind of picture is not shown here");
  if (file.size > LARGEST) return h("p.hint", {}, `A picture of ${bytes(file.size)}: save it to see it.`);
  const response = await request("GET", `/v1/dispatches/${seg(id)}/files/${role}/${position}`);
  const scale = Math.min(1, (room * devicePixelRatio) / told.width, (TALLEST * devicePixelRatio) / told.height);
  const [width, height] = [told.width, told.height].map((each) => Math.max(1, Math.round(each * scale)));
  const made = await decoded(new Blob([await response.arrayBuffer()], { type: told.type }), width, height);
  const canvas = h("canvas", { role: "img", "aria-label": `Picture: ${line(file.name)}` });
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").drawImage(made, 0, 0, width, height);
  made.close();
  return h("div.picture", {}, canvas, h("p.hint", {}, `${told.width} × ${told.height} pixels`));
}

async function decoded(blob, resizeWidth, resizeHeight) {
  try {
    return await createImageBitmap(blob, { resizeWidth, resizeHeight, resizeQuality: "high" });
  } catch {
    throw { message: "this picture is broken, or is not a picture", fix: "save it, and open it in another program" };
  }
}

async function shown(id, role, position, file, room) {
  const told = await get(`/v1/page/dispatches/${seg(id)}/files/${role}/${position}`);
  if (told.kind === "picture") return picture(id, role, position, file, told, room);
  if (told.kind === "text") {
    const marked = coloured(told.text, told.colours);
    return [
      marked === told.text ? long(told.text, 8000) : h("pre", {}, marked),
      told.cut ? h("p.hint", {}, "This is its beginning. Save it to read all of it.") : null,
    ];
  }
  return h("p.hint", {}, `No preview${told.type ? ` of ${told.type}` : ""}. Save it, or put all files into a folder: `, h("code", {}, `dispatch fetch ${id}`));
}

/** The files of one role, "attachments" or "returned", under a heading; null where there are none. */
export function fileList(id, role, files, title) {
  if (!files.length) return null;
  const trouble = h("div");
  return h("section", {},
    h("h3", {}, title),
    h("ul.files", {}, files.map((file, position) => {
      const place = h("div.look", { hidden: true, tabindex: "0", role: "group", "aria-label": `Preview of ${line(file.name)}` });
      const look = button("Preview", async () => {
        const open = place.hidden;
        place.hidden = !open;
        look.setAttribute("aria-expanded", String(open));
        if (!open || place.childElementCount) return;
        try {
          fill(place, await shown(id, role, position, file, place.clientWidth));
        } catch (error) {
          fill(place, problem(error));
        }
      });
      look.setAttribute("aria-expanded", "false");
      look.setAttribute("aria-label", `Preview ${line(file.name)}`);
      return h("li", {},
        h("span.name", {}, line(file.name)),
        h("span.hint", {}, `${bytes(file.size)}${whetherHere(file)}`),
        file.ready ? look : null,
        file.ready
          ? h("button", {
              type: "button",
              "aria-label": `Save ${line(file.name)}`,
              on: { click: (event) => busy(event.currentTarget, trouble, () => download(id, role, position, file.name)) },
            }, "Save")
          : null,
        place);
    })),
    trouble);
}
