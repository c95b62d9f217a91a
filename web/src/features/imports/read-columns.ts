import { readCsv } from "@/kit/csv";

const HEAD_BYTES = 64 * 1024;

/** The column names of a text file; a workbook is read by the server, so its columns are not known here. */
export async function readColumns(file: File): Promise<string[]> {
  const bytes = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
  if (bytes[0] === 0x50 && bytes[1] === 0x4b) return [];
  const [head] = readCsv(decode(bytes), 1);
  return (head ?? []).map((column) => column.trim()).filter((column) => column !== "");
}

/** The whole text of a file. */
export const readText = async (file: File) => decode(new Uint8Array(await file.arrayBuffer()));

/** UTF-8 where it is valid UTF-8, else the encoding of Chinese spreadsheets. */
function decode(bytes: Uint8Array): string {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  try {
    // The cut may fall inside a character; `stream` forgives the broken end only.
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
  } catch {
    return new TextDecoder("gb18030").decode(bytes);
  }
}
