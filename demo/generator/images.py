# SPDX-License-Identifier: Apache-2.0
"""Radiographs that no one ever had taken: drawn small with pillow, enlarged, given grain; JPEG, or 12-bit DICOM."""

from __future__ import annotations

import datetime as dt
import functools
import io
import itertools
import random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .people import Patient

# modality (DICOM code), body part, width and height of the JPEG
VIEWS = {
    "chest": ("DX", "CHEST", (960, 1024)),
    "hand": ("CR", "HAND", (800, 1024)),
    "knee": ("DX", "KNEE", (800, 1024)),
    "teeth": ("PX", "JAW", (1280, 640)),
}
GRAIN = 1400
DICOM_SIZE = (512, 512)


@functools.cache
def _grain() -> Image.Image:
    """One sheet of film grain, cut at another place for every image (pillow's own noise cannot be seeded)."""
    raw = random.Random("film grain").randbytes(GRAIN * GRAIN)
    sheet = Image.frombytes("L", (GRAIN, GRAIN), raw).filter(ImageFilter.GaussianBlur(0.8))
    return sheet.point(lambda level: max(0, min(255, int(128 + (level - 128) * 0.34))))


def _bone(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], width: float, level: int) -> None:
    """A long bone: a shaft with thicker ends."""
    draw.line(points, fill=level, width=max(1, int(width)), joint="curve")
    for x, y in (points[0], points[-1]):
        reach = width * 0.68
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=level)


def _chest(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    draw.rounded_rectangle((24, 10, 232, 280), 70, fill=118)
    lungs = rng.randrange(-6, 7)
    draw.ellipse((44, 48 + lungs, 118, 222), fill=38)
    draw.ellipse((138, 48 - lungs, 212, 222), fill=38)
    for number in range(9):
        top = 44 + number * 20 + rng.randrange(-2, 3)
        for side, start, end in ((40, 180, 300), (136, 240, 360)):
            draw.arc((side, top, side + 80, top + 66), start, end, fill=96, width=5)
    heart = rng.randrange(50, 68)
    draw.ellipse((112, 120, 112 + heart + 22, 214), fill=150)
    draw.rectangle((121, 0, 135, 256), fill=165)
    for y in range(4, 250, 15):
        draw.rectangle((119, y, 137, y + 9), fill=178)
    _bone(draw, [(122, 44), (60, 36 + rng.randrange(6)), (30, 50)], 9, 150)
    _bone(draw, [(134, 44), (196, 36 + rng.randrange(6)), (226, 50)], 9, 150)
    draw.pieslice((30, 190, 130, 290), 180, 360, fill=140)
    draw.pieslice((130, 196, 226, 290), 180, 360, fill=132)


def _hand(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    draw.rounded_rectangle((58, 128, 196, 250), 40, fill=66)
    spread = rng.uniform(0.8, 1.2)
    for finger, (x, tip, width) in enumerate(((82, 46, 9), (110, 24, 10), (138, 30, 10), (166, 60, 8))):
        lean = (x - 124) * 0.28 * spread
        draw.line([(x, 160), (x + lean, tip - 8)], fill=66, width=26)
        joints = [190, 132, 132 - (132 - tip) * 0.45, 132 - (132 - tip) * 0.78, tip]
        for low, high in itertools.pairwise(joints):
            bottom, top = x + lean * (190 - low) / 150, x + lean * (190 - high) / 150
            _bone(draw, [(bottom, low - 4), (top, high + 3)], width - finger % 2, 190)
    draw.line([(70, 200), (24, 130)], fill=66, width=28)
    for start, end in (((84, 212), (56, 172)), ((53, 168), (36, 144)), ((34, 140), (24, 124))):
        _bone(draw, [start, end], 9, 188)
    for _ in range(8):
        x, y = rng.randrange(92, 160), rng.randrange(200, 226)
        draw.ellipse((x - 12, y - 10, x + 12, y + 10), fill=rng.randrange(150, 190))
    _bone(draw, [(104, 236), (100, 276)], 20, 170)
    _bone(draw, [(146, 236), (150, 276)], 16, 166)


def _knee(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    lean = rng.randrange(-8, 9)
    draw.rounded_rectangle((48, -20, 208, 290), 46, fill=70)
    draw.line([(128 + lean, -10), (128, 100)], fill=165, width=44)
    draw.ellipse((78, 78, 130, 136), fill=182)
    draw.ellipse((126, 78, 178, 136), fill=182)
    draw.ellipse((104, 60, 152, 104), fill=205)
    gap = rng.randrange(4, 10)
    draw.rounded_rectangle((80, 134 + gap, 178, 172 + gap), 16, fill=186)
    draw.line([(126, 160), (122 - lean, 280)], fill=164, width=42)
    draw.line([(178, 176), (174, 280)], fill=150, width=14)
    draw.line([(128 + lean, -10), (128, 90)], fill=128, width=14)
    draw.line([(126, 190), (122 - lean, 280)], fill=128, width=14)


def _teeth(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    draw.rectangle((0, 0, 256, 256), fill=52)
    draw.arc((6, -150, 250, 214), 20, 160, fill=120, width=70)
    draw.arc((20, -120, 236, 232), 24, 156, fill=150, width=36)
    for row, base, direction in ((0, 112, -1), (1, 128, 1)):
        for number in range(-7, 8):
            if rng.random() < 0.06:
                continue
            x = 128 + number * 14.5
            y = base - (number * number) * 0.55
            root = y + direction * (40 - abs(number))
            draw.polygon([(x - 6, y), (x + 6, y), (x + 2, root), (x - 2, root)], fill=184)
            crown = (x - 6.5, min(y, y - direction * 14), x + 6.5, max(y, y - direction * 14))
            draw.rounded_rectangle(crown, 4, fill=246 if rng.random() < 0.18 else 208 - 6 * row)


_DRAW = {"chest": _chest, "hand": _hand, "knee": _knee, "teeth": _teeth}


def radiograph(view: str, size: tuple[int, int], label: str, rng: random.Random) -> Image.Image:
    """Draw one 8-bit grey image of a view; no two are alike."""
    small = Image.new("L", (256, 272), 8)
    _DRAW[view](ImageDraw.Draw(small), rng)
    small = small.filter(ImageFilter.GaussianBlur(2.2))
    small = small.rotate(rng.uniform(-4, 4), Image.Resampling.BILINEAR, fillcolor=8)
    if rng.random() < 0.5 and view != "chest":
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    gain = rng.uniform(0.88, 1.1)
    large = small.resize(size, Image.Resampling.BICUBIC).point(lambda level: min(255, int(level * gain)))
    left, top = rng.randrange(GRAIN - size[0] + 1), rng.randrange(GRAIN - size[1] + 1)
    grain = _grain().crop((left, top, left + size[0], top + size[1]))
    large = ImageChops.add(large, grain, 1, -128)
    pen = ImageDraw.Draw(large)
    pen.text((20, 18), f"{label}\nINVENTED IMAGE", fill=230, font_size=18)
    pen.text((size[0] - 44, 18), rng.choice("LR"), fill=240, font_size=30)
    return large


def jpeg(view: str, label: str, rng: random.Random) -> bytes:
    """One JPEG radiograph."""
    out = io.BytesIO()
    radiograph(view, VIEWS[view][2], label, rng).save(out, "JPEG", quality=68)
    return out.getvalue()


def dicom(view: str, number: int, patient: Patient, taken: dt.datetime, seed: int, rng: random.Random) -> bytes:
    """One DICOM object (Digital X-Ray, 12 of 16 bits, explicit little endian) that readers open."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    picture = radiograph(view, DICOM_SIZE, f"{patient.record} {taken:%d.%m.%Y}", rng)
    pixels = bytearray(2 * DICOM_SIZE[0] * DICOM_SIZE[1])
    pixels[0::2] = picture.point(lambda level: (level << 4) & 0xFF).tobytes()
    pixels[1::2] = picture.point(lambda level: level >> 4).tobytes()

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"  # Digital X-Ray image, for presentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[f"{seed}:instance:{number}"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = generate_uid(entropy_srcs=["holdfast demo data"])
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = generate_uid(entropy_srcs=[f"{seed}:study:{number}"])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[f"{seed}:series:{number}"])
    data.PatientName, data.PatientID = f"{patient.family}^{patient.given}", patient.record
    data.PatientBirthDate, data.PatientSex = f"{patient.born:%Y%m%d}", patient.sex.upper()
    data.StudyDate, data.StudyTime = f"{taken:%Y%m%d}", f"{taken:%H%M%S}"
    data.AccessionNumber, data.ReferringPhysicianName = f"S{number:06d}", ""
    data.Modality, data.BodyPartExamined, data.InstanceNumber = VIEWS[view][0], VIEWS[view][1], 1
    data.InstitutionName = "Harbour Street Medical Centre (invented)"
    data.Rows, data.Columns = DICOM_SIZE[1], DICOM_SIZE[0]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = bytes(pixels)
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()
