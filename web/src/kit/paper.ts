/** A file that a service has made. */
export interface Paper {
  content?: string;
  fileName?: string;
  mediaType?: string;
}

/** Hands a file over to the browser. */
export function save({ content = "", fileName = "", mediaType = "" }: Paper) {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: mediaType }));
  link.download = fileName;
  link.click();
  URL.revokeObjectURL(link.href);
}
