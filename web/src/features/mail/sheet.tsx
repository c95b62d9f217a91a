import { useRef } from "react";

const FONT = "14px/1.6 system-ui, sans-serif";

/**
 * Formatted text that others have written, on a sheet of its own: nothing in it runs, and links open outside.
 * The server has cleaned it; this is the second wall.
 */
export function Sheet({ html, title }: { html: string; title: string }) {
  const frame = useRef<HTMLIFrameElement>(null);
  const lay = () => {
    const inside = frame.current?.contentDocument;
    if (!frame.current || !inside) return;
    // The page's policy takes no style from a document; what the server let through is set one by one.
    for (const element of inside.querySelectorAll<HTMLElement>("[style]"))
      element.style.cssText = element.getAttribute("style") ?? "";
    for (const link of inside.querySelectorAll("a")) {
      link.target = "_blank";
      link.rel = "noopener noreferrer";
    }
    inside.documentElement.lang = document.documentElement.lang;
    inside.title = title;
    Object.assign(inside.body.style, { margin: "0", font: FONT, overflowWrap: "anywhere" });
    frame.current.height = "0";
    frame.current.height = String(inside.documentElement.scrollHeight);
  };
  return (
    <iframe
      ref={frame}
      className="sheet"
      title={title}
      srcDoc={html}
      sandbox="allow-same-origin allow-popups allow-popups-to-escape-sandbox"
      onLoad={lay}
    />
  );
}
